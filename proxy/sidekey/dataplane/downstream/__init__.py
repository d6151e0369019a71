"""The caller's side: reads requests, keeps their order, writes responses. Knows an exchange only by `events`."""
