"""An application, as the command line finds it: models at the top of modules."""
