"""What the endpoint sees now against what the model was trained on."""
