"""What a kept model's files must hold before anything ranks with them."""
