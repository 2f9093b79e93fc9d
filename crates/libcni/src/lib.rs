//! The CNI runtime library: runs plugins for a network.
