//! Every plugin that hands out addresses, called in memory: a file each, below this one. None of them needs the kernel.

#![allow(clippy::unwrap_used, reason = "a test panics where it fails")]

#[path = "ipam/host_local.rs"]
mod host_local;
#[path = "ipam/pages.rs"]
mod pages;
#[path = "ipam/static_ips.rs"]
mod static_ips;
