"""What the exports of shop platforms look like, known by their column names."""
