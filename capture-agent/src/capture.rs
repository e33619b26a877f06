//! The tap: the packets that one interface receives and sends, read through libpcap.
//!
//! On Linux the kernel hands packets over in blocks, when a block is full or [`BLOCK_TIMEOUT`] old.
//! A blocking libpcap waits for the next block without a limit, on a quiet interface forever. So
//! the handle is non-blocking, and the wait, with its limit, is here.
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

/// The name that captures on all interfaces.
const ANY: &str = "any";

/// The reason why there is no capture.
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

/// Returns libpcap's own words, without those of the crate.
fn reason(error: &pcap::Error) -> String {
    match error {
        pcap::Error::PcapError(words) => words.clone(),
        other => other.to_string(),
    }
}

/// Names the missing capability. libpcap has no error code for it here, so the text decides.
fn advice(error: &pcap::Error) -> &'static str {
    if reason(error).contains("not permitted") {
        "; capturing needs CAP_NET_RAW: be root, or `setcap cap_net_raw+p` the program; in a container, `--cap-add NET_RAW`"
    } else {
        ""
    }
}

/// The interface to capture on, and how to capture.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) interface: String,
    pub(crate) filter: Filter,
    pub(crate) snaplen: u32,
    /// The size of the kernel's buffer: some seconds at 1 Gbit/s, for the time in which the
    /// scheduler does not run this program.
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

    /// Returns microseconds for other devices than network interfaces: libpcap accepts nanoseconds
    /// for them, too, and does not deliver them.
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
            // LINUX_SLL2 records the interface of each packet. Old libraries have LINUX_SLL only.
            let _ = handle.set_datalink(Linktype(i32::from(LinkType::LINUX_SLL2.0)));
        }
        Ok(handle)
    }
}

/// Returns the link type's number in files. Kernels differ only in the number of raw IP.
fn number_in_files(link: LinkType) -> LinkType {
    match link {
        LinkType::RAW_BSD | LinkType::RAW_OPENBSD => LinkType::RAW,
        link => link,
    }
}

/// The result of a wait: packets may be ready, or the time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waited {
    Something,
    Nothing,
}

/// An interface that is being captured.
pub(crate) struct Tap {
    handle: Capture<Active>,
    interface: String,
    /// The kernel's index of the interface: another interface with the same name has another one.
    index: Option<u32>,
    filter: String,
    format: Format,
}

impl Tap {
    /// Returns the filter that the kernel applies.
    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Calls `each` for the packets that the kernel has, at most `limit`, and returns their number.
    /// Does not wait.
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

    /// Waits until a packet is ready or `patience` is over.
    pub(crate) fn wait(&self, patience: Duration) -> Waited {
        let mut interests = [PollFd::new(self.handle.as_fd(), PollFlags::POLLIN)];
        // A signal may end the call early: the caller checks its state and waits again.
        match poll(&mut interests, timeout(patience)) {
            Ok(ready) if ready > 0 => Waited::Something,
            _ => Waited::Nothing,
        }
    }

    /// Fails if the interface is no longer the one that was opened.
    pub(crate) fn check(&self) -> Result<(), TapError> {
        if self.index.is_some() && if_nametoindex(self.interface.as_str()).ok() != self.index {
            return Err(TapError::Gone(self.interface.clone()));
        }
        Ok(())
    }

    /// Returns the counters of libpcap and the kernel since the interface was opened.
    pub(crate) fn counters(&mut self) -> Option<Stat> {
        self.handle.stats().ok()
    }
}

/// Sleeps, when there is no interface to wait for.
pub(crate) fn pause(patience: Duration) {
    let _ = poll(&mut [], timeout(patience));
}

fn timeout(patience: Duration) -> PollTimeout {
    PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX)
}

/// Converts a packet. libpcap's field is called microseconds even when it holds nanoseconds.
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
