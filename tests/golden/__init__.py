"""What releases wrote: a manifest, a batch's status, a store and a database, one folder a release."""
