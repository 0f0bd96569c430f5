"""The resources of the API: one class a resource, whose methods are written once for both clients."""
