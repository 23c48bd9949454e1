//! Pure codecs for the files and programs of a Linux host: text in, text or argument lists out, no input or output.
//!
//! Each reads its format as the program does that owns it, and an edit keeps each byte that it does not mean.

pub mod accounts;
pub mod boot;
pub mod conf_d;
pub mod fstab;
pub mod glob;
pub mod kernel;
pub mod mountinfo;
pub mod setting;
pub mod sysctl;
pub mod systemd;
pub mod tmpfiles;
pub mod udev;
