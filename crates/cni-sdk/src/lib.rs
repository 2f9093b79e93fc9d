//! Write a CNI plugin in thirty lines.
