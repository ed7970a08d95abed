"""What is measured beside the folds of EMO-DB: faces, fusion, other corpora, disturbances, leakage."""
