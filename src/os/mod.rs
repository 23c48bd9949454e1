//! Pure codecs for the files and programs of a Linux host: text in, text or argument lists out, no input or output.
//!
//! Each reads its format as the program does that owns it, and an edit keeps each byte that it does not mean.

pub mod accounts;
pub mod boot;
pub mod conf_d;
pub mod connection;
pub mod cpuinfo;
pub mod fstab;
pub mod glob;
pub mod kernel;
pub mod ksm;
pub mod meminfo;
pub mod mountinfo;
pub mod nfs;
pub mod release;
pub mod setting;
pub mod swaps;
pub mod sysctl;
pub mod sysfs;
pub mod systemd;
pub mod tmpfiles;
pub mod tuned;
pub mod udev;
pub mod xen;
