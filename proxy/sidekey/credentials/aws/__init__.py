"""AWS: sign requests with Signature Version 4, with a static access key or one from web identity."""
