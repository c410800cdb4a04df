"""Reports as pages: one HTML file each, with pictures in SVG inside, that needs nothing else."""
