//! Turns captures into one pcap per SIP call, and tells what happened on each.
//!
//! Start with [`run`], which is the whole job on one page, and [`calls`], which decides what
//! belongs to which call. `ARCHITECTURE.md` shows the other rooms.

#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::string_slice,
        reason = "tests count on small numbers"
    )
)]

pub mod attempts;
pub mod calls;
pub mod cli;
pub mod config;
pub mod counts;
pub mod dtmf;
pub mod elsewhere;
pub mod events;
pub mod explain;
pub mod find;
pub mod grid;
pub mod index;
pub mod moment;
pub mod outputs;
pub mod packet;
pub mod points;
pub mod problems;
pub mod progress;
pub mod reassembly;
pub mod report;
pub mod report_page;
pub mod reports;
pub mod resume;
pub mod rtcp;
pub mod rtp;
pub mod run;
pub mod sandbox;
pub mod sdp;
pub mod segments;
pub mod selection;
pub mod session;
pub mod sip;
pub mod source;
pub mod state;
pub mod stored;
pub mod survey;
pub mod terms;
pub mod timeline;
pub mod unit;
pub mod watch;
pub mod windows;
