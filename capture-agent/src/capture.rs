//! The tap: what one interface receives and sends, through libpcap.
//!
//! On Linux the kernel hands packets over in blocks, when a block is full or [`BLOCK_TIMEOUT`] old.
//! libpcap would wait for the next block as long as it takes, on a quiet interface forever; so it
//! is told not to wait, and waiting is done here, with a limit.
#![allow(clippy::disallowed_methods, reason = "a door: libpcap")]

use std::{os::fd::AsFd, time::Duration};

use nix::{
    net::if_::if_nametoindex,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use pcap::{Active, Capture, Linktype, Packet, Stat};
use shared::pcap::{LinkType, Precision};

use crate::{
    filter::Filter,
    gather::{Format, Frame},
};

/// How old a block of packets gets before the kernel hands it over.
pub(crate) const BLOCK_TIMEOUT: Duration = Duration::from_millis(100);

/// What captures on all interfaces.
const ANY: &str = "any";

/// Why there is no capture.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TapError {
    #[error("cannot capture on `{interface}`: {}{}", reason(cause), advice(cause))]
    Open {
        interface: String,
        cause: pcap::Error,
    },
    #[error(
        "libpcap refuses the filter `{filter}` for `{interface}`: {}",
        reason(cause)
    )]
    Filter {
        interface: String,
        filter: String,
        cause: pcap::Error,
    },
    #[error("the capture on `{interface}` broke off: {}", reason(cause))]
    Read {
        interface: String,
        cause: pcap::Error,
    },
    #[error("the interface `{0}` went away")]
    Gone(String),
}

/// libpcap's own words, without the crate's.
fn reason(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(words) => words.clone(),
        other => other.to_string(),
    }
}

/// libpcap has no error code for it here, only the system's words.
fn advice(error: &pcap::Error) -> &'static str {
    if reason(error).contains("not permitted") {
        "; capturing needs CAP_NET_RAW: be root, or `setcap cap_net_raw+p` the program; in a container, `--cap-add NET_RAW`"
    } else {
        ""
    }
}

/// What is to be captured, and how.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) interface: String,
    pub(crate) filter: Filter,
    pub(crate) snaplen: u32,
    /// The kernel's buffer: some seconds of a gigabit, for the time that this program may be kept
    /// from running.
    pub(crate) buffer_bytes: u32,
    pub(crate) promiscuous: bool,
    pub(crate) precision: Precision,
}

impl Source {
    pub(crate) fn open(&self) -> Result<Tap, TapError> {
        let interface = self.interface.clone();
        let index = if_nametoindex(interface.as_str()).ok();
        let precision = self.precision_of(index);
        let mut handle = self.activate(precision).map_err(|cause| TapError::Open {
            interface: interface.clone(),
            cause,
        })?;
        let link = LinkType(u16::try_from(handle.get_datalink().0).unwrap_or(u16::MAX));
        let filter = self.filter.expression(link);
        let program = handle.filter(&filter, true);
        program.map_err(|cause| TapError::Filter {
            interface: interface.clone(),
            filter: filter.clone(),
            cause,
        })?;
        let format = Format {
            link: number_in_files(link),
            precision,
            snaplen: self.snaplen,
        };
        Ok(Tap {
            handle,
            interface,
            index,
            filter,
            format,
        })
    }

    /// Only network interfaces give nanoseconds. libpcap would not say that another device does
    /// not.
    fn precision_of(&self, index: Option<u32>) -> Precision {
        let is_network = index.is_some() || self.interface == ANY;
        if is_network {
            self.precision
        } else {
            Precision::Micro
        }
    }

    fn activate(&self, precision: Precision) -> Result<Capture<Active>, pcap::Error> {
        let signed = |value: u32| i32::try_from(value).unwrap_or(i32::MAX);
        let timeout_ms = i32::try_from(BLOCK_TIMEOUT.as_millis()).unwrap_or(i32::MAX);
        let precision = match precision {
            Precision::Micro => pcap::Precision::Micro,
            Precision::Nano => pcap::Precision::Nano,
        };
        let inactive = Capture::from_device(self.interface.as_str())?
            .snaplen(signed(self.snaplen))
            .buffer_size(signed(self.buffer_bytes))
            .promisc(self.promiscuous)
            .precision(precision)
            .timeout(timeout_ms);
        let mut handle = inactive.open()?.setnonblock()?;
        if self.interface == ANY {
            // The second version says which interface a packet was seen on. Old libraries have the
            // first one only.
            let _ = handle.set_datalink(Linktype(i32::from(LinkType::LINUX_SLL2.0)));
        }
        Ok(handle)
    }
}

/// The number for the file. Raw IP alone is numbered differently by kernels.
fn number_in_files(link: LinkType) -> LinkType {
    match link {
        LinkType::RAW_BSD | LinkType::RAW_OPENBSD => LinkType::RAW,
        link => link,
    }
}

/// Whether there was something to be read when waiting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Something,
    Nothing,
}

/// An interface that is being captured.
pub(crate) struct Tap {
    handle: Capture<Active>,
    interface: String,
    /// The kernel's number of the interface, which another interface of the same name does not
    /// have.
    index: Option<u32>,
    filter: String,
    format: Format,
}

impl Tap {
    /// The filter that the kernel applies.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Gives the packets that the kernel has, `limit` at most, to `each`, and says how many there
    /// were. Does not wait.
    pub(crate) fn read(
        &mut self,
        limit: usize,
        mut each: impl FnMut(Frame<'_>),
    ) -> Result<usize, TapError> {
        let fraction_ns = u64::from(self.format.precision.unit_ns());
        let dispatched = self
            .handle
            .dispatch(Some(limit), |packet| each(frame(&packet, fraction_ns)));
        dispatched.map_err(|cause| TapError::Read {
            interface: self.interface.clone(),
            cause,
        })
    }

    /// Waits until there is something to be read.
    pub(crate) fn wait(&self, patience: Duration) -> Waited {
        let mut interests = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        // An interrupted call has waited for nothing: the caller looks around, and waits again.
        match poll(&mut interests, timeout(patience)) {
            Ok(ready) if ready > 0 => Waited::Something,
            _ => Waited::Nothing,
        }
    }

    /// Whether the interface is still the one that was opened.
    pub(crate) fn check(&self) -> Result<(), TapError> {
        if self.index.is_some() && if_nametoindex(self.interface.as_str()).ok() != self.index {
            return Err(TapError::Gone(self.interface.clone()));
        }
        Ok(())
    }

    /// What libpcap and the kernel counted since the interface was opened.
    pub(crate) fn counters(&mut self) -> Option<Stat> {
        self.handle.stats().ok()
    }
}

/// Waits where there is no interface to wait for.
pub(crate) fn pause(patience: Duration) {
    let _ = poll(&mut [], timeout(patience));
}

fn timeout(patience: Duration) -> PollTimeout {
    PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
}

/// libpcap calls the fraction microseconds also where it is nanoseconds.
#[inline]
fn frame<'a>(packet: &Packet<'a>, fraction_ns: u64) -> Frame<'a> {
    let part = |value: i64| u64::try_from(value).unwrap_or(0);
    let seconds_ns = part(packet.header.ts.tv_sec).saturating_mul(1_000_000_000);
    let timestamp_ns =
        seconds_ns.saturating_add(part(packet.header.ts.tv_usec).saturating_mul(fraction_ns));
    Frame {
        timestamp_ns,
        wire_len: packet.header.len,
        bytes: packet.data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(words: &str) -> String {
        let cause = pcap::Error::PcapError(words.to_owned());
        TapError::Open {
            interface: "eth0".to_owned(),
            cause,
        }
        .to_string()
    }

    #[test]
    fn a_missing_permission_comes_with_advice() {
        assert_eq!(
            refusal("No such device exists"),
            "cannot capture on `eth0`: No such device exists"
        );
        let refused = refusal("socket: Operation not permitted");
        assert!(
            refused
                .contains("`eth0`: socket: Operation not permitted; capturing needs CAP_NET_RAW"),
            "{refused}"
        );
    }

    #[test]
    fn raw_ip_has_one_number_in_files() {
        assert_eq!(number_in_files(LinkType(12)), LinkType::RAW);
        assert_eq!(number_in_files(LinkType(1)), LinkType::ETHERNET);
    }
}
