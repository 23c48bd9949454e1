//! Boot configuration: the command lines of Linux and Xen, the files that they are made from, and the boot loaders.

pub mod cmdline;
pub mod grub_cfg;
pub mod shell;
