"""lg-field as a method of nerfbaselines: its data sets and its protocol, our trainer. Knows no nerfstudio."""
