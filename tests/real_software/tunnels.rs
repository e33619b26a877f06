//! Calls in tunnels, captured outside the tunnel. The kernel implements VXLAN and SRv6, socat the
//! tunnels that are only an IP protocol (IP-in-IP, 6in4), and Open vSwitch the others, in user
//! space and so on any kernel.

use std::path::PathBuf;

use support::{
    lab::{Lab, Namespace, Program, V4, V6, WIRE, wait_until},
    sipp::{Calls, LONG, TCP, UDP},
};

use super::comparison::{Checked, check};

const INNER_V4: [&str; 2] = ["203.0.113.1", "203.0.113.2"];
const INNER_V6: [&str; 2] = ["2001:db8:1::1", "2001:db8:1::2"];

/// Makes calls, and checks that all SIP and RTP had this encapsulation, in tshark's notation.
fn made_and_found(lab: Lab, calls: Calls, encapsulation: &str) -> Checked {
    let tap = calls.captured(&lab);
    let checked = check(lab, tap, calls.total());
    let protocols = checked.protocols("sip || rtp");
    assert!(
        protocols
            .iter()
            .all(|stack| stack.starts_with(encapsulation)),
        "{protocols:?}"
    );
    checked
}

/// Creates phones whose calls go through a kernel tunnel of this kind between the ends of the wire.
fn kernel_tunnel(kind: &str, more: &str, outer: [&str; 2]) -> Option<Lab> {
    let mut lab = Lab::new();
    let link = |index: usize| {
        format!(
            "type {kind} local {} remote {} {more}",
            outer[index],
            outer[1 - index]
        )
    };
    if !lab.phones[0].can_have(&link(0)) {
        println!("THIS KERNEL HAS NO INTERFACES OF THE TYPE {kind}");
        return None;
    }
    for (index, phone) in lab.phones.iter().enumerate() {
        phone.ip(&format!("link add inner {}", link(index)));
        phone.ip("link set inner up");
    }
    lab.number("inner", INNER_V4);
    lab.number("inner", INNER_V6);
    Some(lab)
}

#[test]
fn vxlan() {
    let vxlan = "id 7 dstport 4789";
    let Some(lab) = kernel_tunnel("vxlan", vxlan, V4) else {
        return vxlan_of_open_vswitch();
    };
    made_and_found(
        lab.at(INNER_V4),
        Calls {
            padding: LONG,
            ..UDP
        },
        "eth:ethertype:ip:udp:vxlan:eth:ethertype:ip:",
    );
    let lab = kernel_tunnel("vxlan", vxlan, V6).unwrap();
    made_and_found(
        lab.at(INNER_V6),
        TCP,
        "eth:ethertype:ipv6:udp:vxlan:eth:ethertype:ipv6:",
    );
}

/// Creates phones with routes that put their packets into IPv6 packets with a segment routing
/// header (RFC 8754).
fn segment_routing() -> Option<Lab> {
    const ENDS: [&str; 2] = ["2001:db8:2::1", "2001:db8:2::2"];
    let lab = Lab::new();
    if !lab.phones[0]
        .command("sysctl net.ipv6.conf.all.seg6_enabled")
        .output()
        .unwrap()
        .status
        .success()
    {
        println!("THIS KERNEL HAS NO SEGMENT ROUTING");
        return None;
    }
    for (index, phone) in lab.phones.iter().enumerate() {
        let other = 1 - index;
        for own in [ENDS, INNER_V4, INNER_V6] {
            phone.ip(&format!("addr add {} dev lo", own[index]));
        }
        for setting in [
            "ipv6.conf.all.seg6_enabled",
            &format!("ipv6.conf.{WIRE}.seg6_enabled"),
            "ipv6.conf.all.forwarding",
        ] {
            phone.run(&format!("sysctl -qw net.{setting}=1"));
        }
        phone.ip(&format!("route add {} via {}", ENDS[other], V6[other]));
        for inner in [INNER_V4, INNER_V6] {
            let encapsulated = format!("encap seg6 mode encap segs {} dev {WIRE}", ENDS[other]);
            phone.ip(&format!(
                "route add {} {encapsulated} src {} mtu 1300",
                inner[other], inner[index]
            ));
        }
    }
    Some(lab)
}

#[test]
fn ipv4_in_ipv6_with_segment_routing() {
    let Some(lab) = segment_routing() else {
        return ipv4_in_ipv6();
    };
    made_and_found(lab.at(INNER_V4), UDP, "eth:ethertype:ipv6:ipv6.routing:ip:");
}

#[test]
fn ipv6_in_ipv6_with_segment_routing() {
    let Some(lab) = segment_routing() else {
        return ipv6_in_ipv6();
    };
    made_and_found(
        lab.at(INNER_V6),
        TCP,
        "eth:ethertype:ipv6:ipv6.routing:ipv6:",
    );
}

/// Creates phones with an interface each, whose packets socat sends as payload of this IP protocol.
fn socat(protocol: u8, outer: [&str; 2], inner: [&str; 2]) -> Lab {
    let mut lab = Lab::new();
    for index in 0..2 {
        let (own, other) = (outer[index], outer[1 - index]);
        let raw = if own.contains(':') {
            format!("IP6-DATAGRAM:[{other}]")
        } else {
            format!("IP4-DATAGRAM:{other}")
        };
        let line = format!("socat TUN,tun-name=inner,iff-up,iff-no-pi {raw}:{protocol}");
        let socat = Program::start(
            lab.phones[index].command(&line),
            &format!("socat{index}"),
            lab.folder(),
        );
        lab.keep(socat);
        let phone = &lab.phones[index];
        wait_until("socat's interface", || {
            phone
                .command("ip link show inner up")
                .output()
                .unwrap()
                .stdout
                .len()
                > 1
        });
        phone.ip("link set inner mtu 1400");
    }
    lab.number("inner", inner);
    lab.at(inner)
}

#[test]
fn ipv4_in_ipv4() {
    made_and_found(
        socat(4, V4, INNER_V4),
        Calls {
            padding: LONG,
            ..UDP
        },
        "eth:ethertype:ip:ip:",
    );
    made_and_found(socat(4, V4, INNER_V4), TCP, "eth:ethertype:ip:ip:");
}

#[test]
fn ipv6_in_ipv4() {
    made_and_found(
        socat(41, V4, INNER_V6),
        Calls {
            padding: LONG,
            ..UDP
        },
        "eth:ethertype:ip:ipv6:",
    );
    made_and_found(socat(41, V4, INNER_V6), TCP, "eth:ethertype:ip:ipv6:");
}

#[test]
fn ipv4_in_ipv6() {
    made_and_found(
        socat(4, V6, INNER_V4),
        Calls {
            padding: LONG,
            ..UDP
        },
        "eth:ethertype:ipv6:ip:",
    );
}

#[test]
fn ipv6_in_ipv6() {
    made_and_found(socat(41, V6, INNER_V6), TCP, "eth:ethertype:ipv6:ipv6:");
}

/// Phones behind a switch each. Each switch is an Open vSwitch with a bridge `inside`, which has
/// the phone at port `phone`, and a bridge `outside`, which has the wire to the other switch. The
/// test connects the bridges.
struct Switched {
    lab: Lab,
}

const MACS: [&str; 2] = ["02:00:00:00:00:01", "02:00:00:00:00:02"];

impl Switched {
    fn new() -> Self {
        let mut lab = Lab::unconnected([Namespace::new(), Namespace::new()]);
        lab.switches = vec![Namespace::new(), Namespace::new()];
        for (index, (phone, switch)) in lab.phones.iter().zip(&lab.switches).enumerate() {
            phone.wire("inner", switch, "phone");
            phone.ip(&format!("link set inner address {} mtu 1300", MACS[index]));
            phone.without_offloads("inner");
        }
        lab.switches[0].wire(WIRE, &lab.switches[1], WIRE);
        lab.number("inner", INNER_V4);
        lab.number("inner", INNER_V6);
        let mut switched = Self {
            lab: lab.at(INNER_V4),
        };
        for (index, address) in V4.iter().enumerate() {
            // The bridge has the address: the kernel must not answer for it as well.
            switched.lab.switches[index].ip(&format!("link set {WIRE} arp off"));
            switched.lab.switches[index].without_offloads(WIRE);
            switched.start(index);
            switched.set(index, "set Open_vSwitch . other_config:vlan-limit=2");
            switched.set(index, "add-br outside -- set bridge outside datapath_type=netdev -- add-port outside wire");
            switched.set(
                index,
                "add-br inside -- set bridge inside datapath_type=netdev -- add-port inside phone",
            );
            switched.lab.switches[index].ip(&format!("addr add {address}/24 dev outside"));
            switched.lab.switches[index].ip("link set outside up");
        }
        switched
    }

    fn path(&self, index: usize, name: &str) -> PathBuf {
        self.lab.folder().join(format!("{name}{index}"))
    }

    fn start(&mut self, index: usize) {
        let path = |name| self.path(index, name).display().to_string();
        let (database, socket, folder) = (path("database"), path("socket"), path("ovs"));
        let switch = &self.lab.switches[index];
        switch.run(&format!("mkdir {folder}"));
        switch.run(&format!(
            "ovsdb-tool create {database} /usr/share/openvswitch/vswitch.ovsschema"
        ));
        let environment = |line: String| {
            let mut command = switch.command(&line);
            command.env("OVS_RUNDIR", &folder);
            command
        };
        let server = environment(format!(
            "ovsdb-server {database} --remote=punix:{socket} --unixctl={folder}/database.ctl"
        ));
        let server = Program::start(server, &format!("ovsdb{index}"), self.lab.folder());
        let daemon = environment(format!(
            "ovs-vswitchd unix:{socket} --unixctl={folder}/switch.ctl"
        ));
        wait_until("the socket of the switch's database", || {
            self.path(index, "socket").exists()
        });
        let daemon = Program::start(daemon, &format!("switch{index}"), self.lab.folder());
        self.lab.keep(server);
        self.lab.keep(daemon);
    }

    /// Configures a switch, and waits until the configuration is active.
    fn set(&self, index: usize, line: &str) {
        let socket = self.path(index, "socket");
        self.lab.switches[index].run(&format!(
            "ovs-vsctl --timeout=10 --db=unix:{} {line}",
            socket.display()
        ));
    }

    fn flow(&self, index: usize, flow: &str) {
        let bridge = self.path(index, "ovs").join("inside.mgmt");
        let version = if flow.contains("push_vlan") {
            "OpenFlow13"
        } else {
            "OpenFlow10"
        };
        self.lab.switches[index].run(&format!(
            "ovs-ofctl -O {version} add-flow unix:{} {flow}",
            bridge.display()
        ));
    }

    /// Creates a tunnel between the bridges `inside`.
    fn tunnel(kind: &str, options: &str) -> Self {
        let switched = Self::new();
        for index in 0..2 {
            let remote = V4[1 - index];
            let options: String = options
                .split(' ')
                .filter(|option| !option.is_empty())
                .map(|option| format!(" options:{option}"))
                .collect();
            switched.set(
                index,
                &format!(
                    "add-port inside tunnel -- set interface tunnel type={kind} options:remote_ip={remote} options:key=7{options}"
                ),
            );
        }
        switched
    }

    /// Connects the bridges, with these actions on packets from and to the phone.
    fn patched(out: &str, back: &str) -> Self {
        let switched = Self::new();
        for index in 0..2 {
            switched.set(
                index,
                "add-port inside up -- set interface up type=patch options:peer=down \
                 -- add-port outside down -- set interface down type=patch options:peer=up",
            );
            switched.flow(index, &format!("priority=9,in_port=phone,{out},output:up"));
            switched.flow(index, &format!("priority=9,in_port=up,{back},output:phone"));
        }
        switched
    }

    /// Creates a tunnel whose packets have no Ethernet header of their own.
    fn bare_tunnel(kind: &str, options: &str) -> Self {
        let switched = Self::tunnel(kind, options).acquainted();
        for (index, mac) in MACS.iter().enumerate() {
            for family in ["ip", "ipv6"] {
                switched.flow(
                    index,
                    &format!("priority=9,in_port=phone,{family},actions=output:tunnel"),
                );
                switched.flow(
                    index,
                    &format!(
                        "priority=9,in_port=tunnel,{family},actions=mod_dl_dst:{mac},output:phone"
                    ),
                );
            }
        }
        switched
    }

    /// Sets the phones' hardware addresses, so that they need no ARP.
    fn acquainted(self) -> Self {
        for (index, phone) in self.lab.phones.iter().enumerate() {
            for inner in [INNER_V4, INNER_V6] {
                phone.ip(&format!(
                    "neigh add {} lladdr {} dev inner",
                    inner[1 - index],
                    MACS[1 - index]
                ));
            }
        }
        self
    }

    fn check_udp(self, encapsulation: &str) {
        made_and_found(
            self.lab,
            Calls {
                padding: LONG,
                ..UDP
            },
            encapsulation,
        );
    }

    fn check_tcp(self, encapsulation: &str) {
        made_and_found(self.lab.at(INNER_V6), TCP, encapsulation);
    }
}

fn vxlan_of_open_vswitch() {
    Switched::tunnel("vxlan", "").check_udp("eth:ethertype:ip:udp:vxlan:eth:ethertype:");
}

#[test]
fn gre_with_ethernet() {
    Switched::tunnel("gre", "").check_udp("eth:ethertype:ip:gre:eth:ethertype:ip:");
    Switched::tunnel("gre", "csum=true").check_tcp("eth:ethertype:ip:gre:eth:ethertype:ipv6:");
}

#[test]
fn gre() {
    Switched::bare_tunnel("gre", "packet_type=legacy_l3").check_udp("eth:ethertype:ip:gre:ip:");
    Switched::bare_tunnel("gre", "packet_type=legacy_l3").check_tcp("eth:ethertype:ip:gre:ipv6:");
}

#[test]
fn geneve() {
    Switched::tunnel("geneve", "").check_udp("eth:ethertype:ip:udp:geneve:eth:ethertype:ip:");
    Switched::tunnel("geneve", "").check_tcp("eth:ethertype:ip:udp:geneve:eth:ethertype:ipv6:");
}

#[test]
fn erspan() {
    let first = "erspan_ver=1 erspan_idx=1";
    let second = "erspan_ver=2 erspan_dir=1 erspan_hwid=4";
    Switched::tunnel("erspan", first).check_udp("eth:ethertype:ip:gre:erspan:eth:ethertype:ip:");
    Switched::tunnel("erspan", second).check_tcp("eth:ethertype:ip:gre:erspan:eth:ethertype:ipv6:");
}

#[test]
fn vlan() {
    let (out, back) = (
        "actions=push_vlan:0x8100,set_field:4138->vlan_vid",
        "actions=pop_vlan",
    );
    Switched::patched(out, back).check_udp("eth:ethertype:vlan:ethertype:ip:");
    Switched::patched(out, back).check_tcp("eth:ethertype:vlan:ethertype:ipv6:");
}

#[test]
fn vlan_in_vlan() {
    let push =
        "push_vlan:0x8100,set_field:4138->vlan_vid,push_vlan:0x88a8,set_field:4196->vlan_vid";
    let (out, back) = (format!("actions={push}"), "actions=pop_vlan,pop_vlan");
    Switched::patched(&out, back)
        .check_udp("eth:ethertype:ieee8021ad:ethertype:vlan:ethertype:ip:");
    Switched::patched(&out, back)
        .check_tcp("eth:ethertype:ieee8021ad:ethertype:vlan:ethertype:ipv6:");
}

#[test]
fn mpls() {
    let out = |family: &str| format!("{family},actions=push_mpls:0x8847,set_field:77->mpls_label");
    let back = |ethertype: &str| format!("mpls,actions=pop_mpls:{ethertype}");
    Switched::patched(&out("ip"), &back("0x0800")).check_udp("eth:ethertype:mpls:ip:");
    Switched::patched(&out("ipv6"), &back("0x86dd"))
        .acquainted()
        .check_tcp("eth:ethertype:mpls:ipv6:");
}
