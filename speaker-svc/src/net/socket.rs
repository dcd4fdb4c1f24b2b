//! Packet sockets (packet(7)), and the one privilege that they need. The home of unsafe code: nothing else here has any.
//!
//! A socket is bound to one protocol on one interface and not promiscuous, so the kernel hands over neither other traffic nor other stations' unicast. A filter drops what
//! belongs to other stations or unknown VLANs (`PACKET_OTHERHOST`), and of IPv6 all but neighbor discovery, before it is copied.

use std::io::{self, PipeReader, Read as _, Write as _};
use std::net::Ipv6Addr;
use std::os::fd::{AsRawFd as _, RawFd};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::core::interfaces::LinkIndex;
use crate::wire::ethernet::{ARP, IPV6};

/// Bytes asked of the kernel for waiting frames: some thousand frames, for the moments in which the thread does not run. The kernel gives less
/// where `net.core.rmem_max` says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Bytes of an ARP frame that the filter lets through: it has 42, the rest is padding.
const ARP_SNAP: u32 = 64;

/// The same of an IPv6 frame: all of it, as its checksum is about all of it.
const NDP_SNAP: u32 = 2_048;

/// Room for every frame that a filter lets through.
pub const RECEIVE_LEN: usize = 2_048;

/// `ldh [offset]`, `ldb [offset]`, `jeq value`, `jge value` and `ret value` of classic BPF (linux/bpf_common.h).
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_FROM: u16 = 0x35;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE` (linux/filter.h): the packet's type as the kernel sees it, in place of a byte of the frame.
const PACKET_TYPE: u32 = 0xffff_f004;

/// `PACKET_HOST`, `PACKET_BROADCAST` and `PACKET_OTHERHOST` (linux/if_packet.h); between the last two is `PACKET_MULTICAST`.
const TO_US: u32 = 0;
const TO_ALL: u32 = 1;
const TO_OTHERS: u32 = 3;

/// Where the next header and, without extension headers, the ICMPv6 type are in a frame (RFC 8200 §3, RFC 4443 §2.1).
const NEXT_HEADER_AT: u32 = 20;
const ICMP_TYPE_AT: u32 = 54;

/// ICMPv6, and of it solicitations and advertisements (RFC 8200 §3, RFC 4861 §4.3, §4.4).
const ICMPV6: u32 = 58;
const SOLICITATION: u32 = 135;
const ADVERTISEMENT: u32 = 136;

/// What a [`FrameSocket`] receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// ARP that is sent to us or to all.
    Arp,
    /// Neighbor solicitations and advertisements that are sent to us or to groups.
    Ndp,
}

impl Traffic {
    fn ethertype(self) -> u16 {
        match self {
            Self::Arp => ARP,
            Self::Ndp => IPV6,
        }
    }

    fn filter(self) -> Vec<SockFilter> {
        let op = SockFilter::new;
        match self {
            Self::Arp => vec![
                op(LOAD_HALF, 0, 0, PACKET_TYPE),
                op(JUMP_EQUAL, 1, 0, TO_US),
                op(JUMP_EQUAL, 0, 1, TO_ALL),
                op(RETURN, 0, 0, ARP_SNAP),
                op(RETURN, 0, 0, 0),
            ],
            Self::Ndp => vec![
                op(LOAD_HALF, 0, 0, PACKET_TYPE),
                op(JUMP_FROM, 6, 0, TO_OTHERS),
                op(LOAD_BYTE, 0, 0, NEXT_HEADER_AT),
                op(JUMP_EQUAL, 0, 4, ICMPV6),
                op(LOAD_BYTE, 0, 0, ICMP_TYPE_AT),
                op(JUMP_EQUAL, 1, 0, SOLICITATION),
                op(JUMP_EQUAL, 0, 1, ADVERTISEMENT),
                op(RETURN, 0, 0, NDP_SNAP),
                op(RETURN, 0, 0, 0),
            ],
        }
    }
}

/// Receives frames of one kind on one interface and sends answers.
#[derive(Debug)]
pub struct FrameSocket(Socket);

impl FrameSocket {
    /// Opens a socket on an interface.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW, `ENODEV` if the interface is gone, `ENETDOWN` if it is down, or what else the kernel says.
    pub fn open(traffic: Traffic, link: LinkIndex) -> io::Result<Self> {
        // Protocol 0: nothing arrives before the filter is in place and the socket bound.
        let socket = open()?;
        socket.attach_filter(&traffic.filter())?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        bind(&socket, link, traffic.ethertype())?;
        // Binding to an interface that is down works and leaves an error behind.
        socket.take_error()?.map_or(Ok(Self(socket)), Err)
    }

    /// Takes a frame; `WouldBlock` if there is none.
    ///
    /// # Errors
    /// What the kernel says, `ENETDOWN` when the interface went down or away.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(frame)
    }

    /// Sends a frame, without waiting.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` or `ENOBUFS` if it has no room.
    pub fn send(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.0).write(frame)
    }
}

/// Why [`wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Of each socket whether a frame, or an error of the interface, can be received.
    Frames {
        /// Of the first one.
        arp: bool,
        /// Of the second one.
        ndp: bool,
    },
    /// The other end of the pipe is closed.
    Stop,
}

/// Waits until one of two sockets has a frame or the writing end of `stop` is closed.
///
/// # Errors
/// What the kernel says.
pub fn wait(arp: &FrameSocket, ndp: &FrameSocket, stop: &PipeReader) -> io::Result<Woken> {
    loop {
        match poll([arp.0.as_raw_fd(), ndp.0.as_raw_fd(), stop.as_raw_fd()]) {
            Ok([_, _, true]) => return Ok(Woken::Stop),
            Ok([false, false, false]) => {}
            Ok([arp, ndp, false]) => return Ok(Woken::Frames { arp, ndp }),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Holds memberships in IPv6 groups; closing it ends them.
#[derive(Debug)]
pub struct GroupSocket(Socket);

impl GroupSocket {
    /// Opens a socket that receives nothing.
    ///
    /// # Errors
    /// `EAFNOSUPPORT` if the kernel has no IPv6, or what else it says.
    pub fn open() -> io::Result<Self> {
        Socket::new(Domain::IPV6, Type::DGRAM, None).map(Self)
    }

    /// Joins a group on an interface.
    ///
    /// # Errors
    /// `ENOMEM` or `ENOBUFS` if the socket holds as many as it may (`net.core.optmem_max`), `ENODEV` if the interface is gone, `EINVAL` if it has no IPv6.
    pub fn join(&self, group: Ipv6Addr, LinkIndex(link): LinkIndex) -> io::Result<()> {
        self.0.join_multicast_v6(&group, link)
    }

    /// Leaves a group on an interface.
    ///
    /// # Errors
    /// `EADDRNOTAVAIL` if it was not joined, `ENODEV` if the interface is gone.
    pub fn leave(&self, group: Ipv6Addr, LinkIndex(link): LinkIndex) -> io::Result<()> {
        self.0.leave_multicast_v6(&group, link)
    }
}

/// Whether an error says that a socket holds as much as it may.
#[must_use]
pub fn is_socket_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOMEM | libc::ENOBUFS))
}

/// Sends frames on one interface and receives nothing; apart from the [`FrameSocket`], so that answers never wait behind a burst.
#[derive(Debug)]
pub struct Transmitter(Socket);

impl Transmitter {
    /// Opens a socket on an interface.
    ///
    /// # Errors
    /// As [`FrameSocket::open`].
    pub fn open(link: LinkIndex) -> io::Result<Self> {
        let socket = open()?;
        bind(&socket, link, 0)?;
        Ok(Self(socket))
    }

    /// Sends a frame, without waiting.
    ///
    /// # Errors
    /// What the kernel says; `WouldBlock` or `ENOBUFS` if it has no room.
    pub fn send(&self, frame: &[u8]) -> io::Result<usize> {
        (&self.0).write(frame)
    }
}

/// Whether an error says that the interface is down or gone, which the links will say too.
#[must_use]
pub fn is_interface_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV))
}

/// Checks that packet sockets can be opened at all.
///
/// # Errors
/// `EPERM` without CAP_NET_RAW.
pub fn check() -> io::Result<()> {
    open().map(drop)
}

fn open() -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(0)))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[expect(unsafe_code, reason = "socket2 makes no packet addresses")]
fn bind(socket: &Socket, LinkIndex(index): LinkIndex, ethertype: u16) -> io::Result<()> {
    let invalid = |_overflow| io::Error::from_raw_os_error(libc::EINVAL);
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET.try_into().map_err(invalid)?,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: index.try_into().map_err(invalid)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let length = size_of::<libc::sockaddr_ll>().try_into().map_err(invalid)?;
    // SAFETY: the pointer is to a whole `sockaddr_ll` of that length, which outlives the call; the descriptor is open.
    let done = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    checked(done)
}

/// Waits for the first of three descriptors; says of each whether something happened there, an error included.
#[expect(unsafe_code, reason = "the standard library has no poll")]
fn poll(descriptors: [RawFd; 3]) -> io::Result<[bool; 3]> {
    let mut waiting = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: the pointer is to three `pollfd`, which outlive the call.
    let done = unsafe { libc::poll(waiting.as_mut_ptr(), 3, -1) };
    checked(done.min(0))?;
    Ok(waiting.map(|descriptor| descriptor.revents != 0))
}

fn checked(done: libc::c_int) -> io::Result<()> {
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// CAP_NET_RAW (linux/capability.h).
const CAP_NET_RAW: u32 = 13;

/// The highest capability number that the two words of version 3 have room for.
const CAP_HIGHEST: libc::c_ulong = 63;

/// `_LINUX_CAPABILITY_VERSION_3` (linux/capability.h).
const CAPABILITY_VERSION: u32 = 0x2008_0522;

/// `struct __user_cap_header_struct` (linux/capability.h).
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

/// `struct __user_cap_data_struct` (linux/capability.h).
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilityData {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Gives up every capability but CAP_NET_RAW, which new interfaces need later, and any way to get one back.
///
/// Capabilities belong to threads and pass to those made afterwards, so `main` calls this while it is alone.
///
/// # Errors
/// `EPERM` if CAP_NET_RAW is not there to be kept.
pub fn keep_only_net_raw() -> io::Result<()> {
    no_new_privileges()?;
    for capability in (0..=CAP_HIGHEST).filter(|number| *number != libc::c_ulong::from(CAP_NET_RAW)) {
        // Past the last capability the kernel says EINVAL, and EPERM to whom lacks CAP_SETPCAP, who can then get nothing back either.
        if drop_from_bounding_set(capability).is_err() {
            break;
        }
    }
    let keep = 1 << CAP_NET_RAW;
    set_capabilities([CapabilityData { effective: keep, permitted: keep, inheritable: 0 }, CapabilityData::default()])
}

#[expect(unsafe_code, reason = "the standard library has no prctl")]
fn no_new_privileges() -> io::Result<()> {
    let (yes, none): (libc::c_ulong, libc::c_ulong) = (1, 0);
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, yes, none, none, none) };
    checked(done)
}

#[expect(unsafe_code, reason = "the standard library has no prctl")]
fn drop_from_bounding_set(capability: libc::c_ulong) -> io::Result<()> {
    let none: libc::c_ulong = 0;
    // SAFETY: takes numbers only.
    let done = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, none, none, none) };
    checked(done)
}

#[expect(unsafe_code, reason = "neither the standard library nor libc has capset")]
fn set_capabilities(data: [CapabilityData; 2]) -> io::Result<()> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    // SAFETY: the pointers are to a header and two words of data as version 3 wants them, which outlive the call.
    let done = unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
