"""One job, from its claim to the version or report that it publishes."""
