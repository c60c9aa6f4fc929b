"""The law of equivalence, with generated rules, documents and operations.

Every operation on stored documents through a model with lazymig gives what it gives through plain
MongoEngine on a copy to which every rule was applied; and after every write both collections,
brought up to date, are equal. Outside of the law, and nothing else is:

- documents that match a rule which is not proved to converge (`test_apart` holds that they are
  nothing to operations on others), and handlers whose rules, once all were applied, match again
  (one rule makes what an earlier one takes away): there is no state to be equal to;
- documents to which a rule cannot be applied: MongoDB refuses its update, or the rule raises
  (they stay as they are stored, and are nothing to operations on others: `test_apart`);
- the hint of a sparse index, whose answer lacks what the index lacks;
- the natural order, and whatever depends on it: `first()` or `[i]` without an order, an update of
  one of several matches, the order of equal sort keys, of keys in a document, of distinct values,
  and how far an update of many documents came before MongoDB refused one of them;
- the document that an operation returns after it has itself written an old shape: it is migrated
  as it is loaded (the collections are still equal once both are up to date);
- what is documented to show documents as stored: `as_stored()`, `as_pymongo()`, raw PyMongo,
  `explain()`;
- the text of exceptions, and the `_id` that a server gives to what an upsert inserts.
"""
