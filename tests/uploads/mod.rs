//! Uploads, end to end: the program, a store that checks signatures, and between them what goes
//! wrong with stores.
//!
//! Whatever fails, and whenever the program is killed: no call is deleted before the store has it,
//! each is sent in the end, and the tables are as they would have been.

mod again;
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
