"""The mesh's own tool servers, beside the support desk's: `accounts`, `invoices`, `records`, `notes`."""
