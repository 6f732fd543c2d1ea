"""An AX650N behind PCIe: the vendor's libaxcl_rt.so, bound without anything in between."""
