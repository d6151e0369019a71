"""Where grants and client certificates come from at run time: fixed, by calls, from files and URLs."""
