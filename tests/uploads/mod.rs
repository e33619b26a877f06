//! Uploads, end to end: the program, a store that checks signatures, and a proxy in between that
//! injects faults.
//!
//! With any fault or kill, no call is deleted before the store has it, each is sent in the end, and
//! the tables are the same as without.

mod again;
mod archive;
mod check;
mod credentials;
mod directories;
mod harness;
mod kills;
mod large;
mod objects;
mod proxy;
mod site;
mod spool;
mod store;
mod tables;
mod troubles;
mod usage;
mod without;
