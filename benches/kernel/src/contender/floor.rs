//! The floor: bytes prepared beforehand, in messages of 64 KiB, written by a loop that does nothing
//! else, with one acknowledgement at the end; reading into one buffer that nobody looks at. Written
//! for itself, after the kernel's header, with no code of the library.

use anyhow::{Context as _, Result, ensure};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use super::{Contender, Job};
use crate::NAME;
use crate::workload::{Operation, Subject, Workload};

const MESSAGE: usize = 65_400;
const NESTED: u16 = 0x8000;
const REMOVE_ME: u32 = 1;
const REPLACE: u32 = 2;
const UPDATE_ONLY: u32 = 4;

pub(crate) struct Floor;

impl Contender for Floor {
    fn name(&self) -> &'static str {
        "floor"
    }

    fn is_too_slow(&self, _: Operation, _: usize) -> bool {
        false
    }

    fn prepare<'a>(
        &'a mut self,
        operation: Operation,
        workload: &'a Workload,
    ) -> Result<Option<Job<'a>>> {
        let (socket, family) = connect()?;
        let Some(messages) = messages(operation, family, workload) else {
            let request = message(family, 0x301, 0, &name());
            return Ok(Job::all(workload, move || read(&socket, &request)));
        };
        Ok(Job::all(workload, move || write(&socket, &messages)))
    }
}

/// Does it without being timed.
pub(crate) fn run(operation: Operation, workload: &Workload) -> Result<()> {
    let (socket, family) = connect()?;
    messages(operation, family, workload).map_or(Ok(()), |messages| write(&socket, &messages))
}

fn messages(operation: Operation, family: u16, workload: &Workload) -> Option<Vec<Vec<u8>>> {
    let peer = match operation {
        Operation::Add | Operation::Replace => add_peer,
        Operation::Psk => set_psk,
        Operation::Lock => lock_peer,
        Operation::Unlock => unlock_peer,
        Operation::Remove => remove_peer,
        Operation::Dump | Operation::Statistics => return None,
    };
    Some(prepare(operation, family, workload, peer))
}

fn write(socket: &Socket, messages: &[Vec<u8>]) -> Result<()> {
    for message in messages {
        socket.send(message, 0)?;
    }
    let mut answer = Vec::with_capacity(4096);
    socket.recv(&mut answer, 0)?;
    ensure!(answer.get(16..20) == Some(&[0; 4]), "the kernel refused it");
    Ok(())
}

fn read(socket: &Socket, request: &[u8]) -> Result<()> {
    let mut answer = Vec::with_capacity(65_536);
    socket.send(request, 0)?;
    loop {
        answer.clear();
        let len = socket.recv(&mut answer, 0)?;
        // The last message of the datagram is the end if it is NLMSG_DONE: 20 bytes, type 3.
        if len >= 20 && answer.get(len - 20 + 4..len - 20 + 6) == Some(&[3, 0]) {
            return Ok(());
        }
    }
}

fn connect() -> Result<(Socket, u16)> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    // CTRL_CMD_GETFAMILY with CTRL_ATTR_FAMILY_NAME
    socket.send(&message(16, 1, 3, &attribute(2, b"wireguard\0")), 0)?;
    let mut answer = Vec::with_capacity(65_536);
    socket.recv(&mut answer, 0)?;
    // CTRL_ATTR_FAMILY_ID is 6 bytes of type 1.
    let at = answer.windows(4).position(|window| window == [6, 0, 1, 0]);
    let at = at.context("this kernel has no WireGuard")?;
    Ok((socket, u16::from_ne_bytes([answer[at + 4], answer[at + 5]])))
}

fn prepare(
    operation: Operation,
    family: u16,
    workload: &Workload,
    peer: fn(&Subject) -> Vec<u8>,
) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut peers = Vec::new();
    for subject in &workload.peers {
        let next = peer(subject);
        if peers.len() + next.len() > MESSAGE {
            messages.push(core::mem::take(&mut peers));
        }
        peers.extend(next);
    }
    messages.push(peers);
    let last = messages.len() - 1;
    messages
        .iter()
        .enumerate()
        .map(|(place, peers)| {
            let flags = if place == last { 5 } else { 1 };
            let replaces = operation == Operation::Replace && place == 0;
            // WGDEVICE_A_FLAGS with WGDEVICE_F_REPLACE_PEERS
            let replace = if replaces { attribute(5, &1_u32.to_ne_bytes()) } else { Vec::new() };
            let body = [name(), replace, attribute(8 | NESTED, peers)].concat();
            message(family, flags, 1, &body)
        })
        .collect()
}

fn add_peer(subject: &Subject) -> Vec<u8> {
    peer(&[key(subject), flags(REPLACE), psk(subject), ip(subject)])
}

fn set_psk(subject: &Subject) -> Vec<u8> {
    peer(&[key(subject), flags(UPDATE_ONLY), psk(subject)])
}

fn lock_peer(subject: &Subject) -> Vec<u8> {
    peer(&[key(subject), flags(UPDATE_ONLY | REPLACE)])
}

fn unlock_peer(subject: &Subject) -> Vec<u8> {
    peer(&[key(subject), flags(UPDATE_ONLY | REPLACE), ip(subject)])
}

fn remove_peer(subject: &Subject) -> Vec<u8> {
    peer(&[key(subject), flags(REMOVE_ME)])
}

fn peer(parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(NESTED, &parts.concat())
}

fn key(subject: &Subject) -> Vec<u8> {
    attribute(1, &subject.key)
}

fn psk(subject: &Subject) -> Vec<u8> {
    attribute(2, &subject.psk)
}

fn flags(flags: u32) -> Vec<u8> {
    attribute(3, &flags.to_ne_bytes())
}

fn ip(subject: &Subject) -> Vec<u8> {
    let one = [
        attribute(1, &2_u16.to_ne_bytes()),
        attribute(2, &subject.ip.octets()),
        attribute(3, &[32]),
    ];
    attribute(9 | NESTED, &attribute(NESTED, &one.concat()))
}

fn name() -> Vec<u8> {
    attribute(2, format!("{NAME}\0").as_bytes())
}

fn message(kind: u16, flags: u16, command: u8, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(20 + body.len()).unwrap_or(u32::MAX);
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&flags.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[command, 1, 0, 0]);
    bytes.extend_from_slice(body);
    bytes
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut bytes = len.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}
