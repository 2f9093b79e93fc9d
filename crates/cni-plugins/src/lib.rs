//! The reference CNI plugins.
