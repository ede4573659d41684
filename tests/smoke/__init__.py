"""`make smoke-aws`: one execution on real AWS, in a stack that is deployed for it and deleted again."""
