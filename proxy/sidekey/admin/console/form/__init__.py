"""Forms that are made of the kinds' own schemas: a new kind has one without a line here."""
