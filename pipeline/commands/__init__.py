"""What `stage=` can name beside the stages: pages and pictures made from what runs left."""
