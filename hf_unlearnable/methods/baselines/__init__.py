"""The methods of other papers that MI-UE and BEO are compared with, one file each."""
