"""A libaxcl_rt.so made of software: the vendor's functions over the core of the virtual card."""
