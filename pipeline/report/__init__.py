"""Tables, plots and pictures of runs, each page as one HTML file."""
