"""What every other room of the merchant reads: purchases, their split in time, histories."""
