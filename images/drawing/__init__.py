"""The figures of images/, a family in each module; `board` holds palette, type sizes and shapes."""
