//! Packet sockets (packet(7)), and the one privilege that they need. The home of unsafe code: nothing else here has any.
//!
//! A socket is bound to ARP on one interface and not promiscuous, so the kernel hands over neither IP traffic nor other stations' unicast. A filter drops what belongs to
//! other stations or unknown VLANs (`PACKET_OTHERHOST`) before it is copied.

use std::io::{self, PipeReader, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, RawFd};

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::core::interfaces::LinkIndex;
use crate::wire::ethernet::ARP;

/// Bytes asked of the kernel for waiting frames: some thousand frames, for the moments in which the thread does not run. The kernel gives less
/// where `net.core.rmem_max` says so.
const RECEIVE_BUFFER: usize = 1 << 20;

/// Bytes of a frame that the filter lets through: an ARP frame has 42, the rest is padding.
const SNAP_LEN: u32 = 64;

/// `ldh [offset]`, `jeq value` and `ret value` of classic BPF (linux/bpf_common.h).
const LOAD_HALF: u16 = 0x28;
const JUMP_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// `SKF_AD_OFF + SKF_AD_PKTTYPE` (linux/filter.h): the packet's type as the kernel sees it, in place of a byte of the frame.
const PACKET_TYPE: u32 = 0xffff_f004;

/// `PACKET_HOST` and `PACKET_BROADCAST` (linux/if_packet.h).
const TO_US: u32 = 0;
const TO_ALL: u32 = 1;

/// Receives the ARP frames of one interface and sends answers.
#[derive(Debug)]
pub struct ArpSocket(Socket);

/// Why [`ArpSocket::wait`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// A frame, or an error of the interface, can be received.
    Frame,
    /// The other end of the pipe is closed.
    Stop,
}

impl ArpSocket {
    /// Opens a socket on an interface.
    ///
    /// # Errors
    /// `EPERM` without CAP_NET_RAW, `ENODEV` if the interface is gone, `ENETDOWN` if it is down, or what else the kernel says.
    pub fn open(link: LinkIndex) -> io::Result<Self> {
        // Protocol 0: nothing arrives before the filter is in place and the socket bound.
        let socket = open()?;
        socket.attach_filter(&[
            SockFilter::new(LOAD_HALF, 0, 0, PACKET_TYPE),
            SockFilter::new(JUMP_EQUAL, 1, 0, TO_US),
            SockFilter::new(JUMP_EQUAL, 0, 1, TO_ALL),
            SockFilter::new(RETURN, 0, 0, SNAP_LEN),
            SockFilter::new(RETURN, 0, 0, 0),
        ])?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        bind(&socket, link, ARP)?;
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

    /// Waits until there is a frame or the writing end of `stop` is closed.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn wait(&self, stop: &PipeReader) -> io::Result<Woken> {
        loop {
            match poll([self.0.as_raw_fd(), stop.as_raw_fd()]) {
                Ok([_, true]) => return Ok(Woken::Stop),
                Ok([true, false]) => return Ok(Woken::Frame),
                Ok([false, false]) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// Sends frames on one interface and receives nothing; apart from the [`ArpSocket`], so that answers never wait behind a burst.
#[derive(Debug)]
pub struct Transmitter(Socket);

impl Transmitter {
    /// Opens a socket on an interface.
    ///
    /// # Errors
    /// As [`ArpSocket::open`].
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

/// Waits for the first of two descriptors; says of each whether something happened there, an error included.
#[expect(unsafe_code, reason = "the standard library has no poll")]
fn poll(descriptors: [RawFd; 2]) -> io::Result<[bool; 2]> {
    let mut waiting = descriptors.map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    // SAFETY: the pointer is to two `pollfd`, which outlive the call.
    let done = unsafe { libc::poll(waiting.as_mut_ptr(), 2, -1) };
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
