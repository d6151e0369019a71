"""AWS: requests are signed with an access key (Signature Version 4), fixed or obtained by web identity."""
