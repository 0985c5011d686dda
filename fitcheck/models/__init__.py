"""What a model is made of: quant types, tensor tables, header readers, the catalog and the architecture families."""
