"""The journal of bulk runs, their leases, and the documents they have refused."""
