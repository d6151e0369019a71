"""stripe-python, which reads no variable for its trusted CAs. Arguments: BASE [CERTIFICATES]."""

import sys

import stripe

base, *certificates = sys.argv[1:]
if certificates:
    stripe.ca_bundle_path = certificates[0]
client = stripe.StripeClient("any word", base_addresses={"api": base}, max_network_retries=0)
print("get", client.v1.balance.retrieve().object)
