//! A device's client: `client_bin::rotate::Rotate`, with a model of what is around it.

use client_bin::rotate::Rotate;
use client_bin::tunnel::Link;
use mfa_core::id::{DeviceId, LocationId};
use mfa_core::rotate::{PskGeneration, RotationState};
use mfa_wire::http as wire;
use wg_types::PresharedKey;

use crate::action::Commit;
use crate::coverage::Cover;
use crate::db::id;
use crate::rng::{bytes, serial};
use crate::world::World;

/// What a client has of a session.
#[derive(Debug)]
pub struct Held {
    /// Which session.
    pub session: i64,
    /// The serial of the pre-shared key in its interface.
    pub psk: u64,
    /// Its part in rotations.
    pub rotate: Rotate,
    /// What its interface counts.
    pub link: Link,
    /// What it said last, and before.
    said: [Option<wire::RotateRequest>; 2],
}

fn info(session: i64, generation: u32, next_generation: Option<u32>) -> wire::SessionInfo {
    wire::SessionInfo {
        id: session,
        since: 0,
        expires: 0,
        idle_threshold: 0,
        generation,
        next_generation,
        gateways_connected: 1,
        gateways_applied: 1,
    }
}

impl World {
    /// A client learns what its login bought.
    pub fn hold(&mut self, device: usize, location: usize, session: i64, psk: u64) {
        let key = PresharedKey::from_bytes(bytes(0x99, psk));
        let rotate = Rotate::new(id(location), &info(session, 1, None), key, self.system_time());
        let held = Held { session, psk, rotate, link: Link::default(), said: [None, None] };
        self.devices[device].held[location] = Some(held);
    }

    /// A client looks at its interface.
    pub fn look_at_link(&mut self, device: usize, location: usize) {
        let now = self.system_time();
        let Some(held) = &mut self.devices[device].held[location] else { return };
        let before = held.rotate.generation();
        let Some(psk) = held.rotate.handle_link(now, &held.link) else { return };
        held.psk = serial(psk.expose_secret());
        held.rotate.handle_set(now, &held.link);
        let generation = held.rotate.generation();
        self.coverage.hit(if generation > before { Cover::KeySet } else { Cover::KeyBack });
        if let Some(truth) = self.oracle.sessions.get_mut(&held.session) {
            truth.client_has = truth.client_has.max(generation);
        }
    }

    /// A client asks a core how its session stands, and takes part in the rotation. With `late`
    /// something that it said earlier arrives now, and nobody waits for the answer.
    pub fn ask(&mut self, device: usize, location: usize, core: usize, late: bool, commit: Commit) {
        let now = self.system_time();
        let Some(number) = self.devices[device].id else { return };
        let reached = self.cores[core].serves();
        let mine = |row: &&crate::db::SessionRow| {
            row.ended.is_none()
                && row.subject.device == DeviceId::new(number)
                && row.subject.location == LocationId::new(id(location))
        };
        let live = self.db.sessions.iter().find(mine).copied();
        let Some(held) = &mut self.devices[device].held[location] else { return };
        let said = if late {
            held.said[1].or(held.said[0])
        } else {
            let staged = |state| state == RotationState::Staged;
            if let Some(live) = live.filter(|_| reached) {
                let next = live.next.filter(|next| staged(next.state));
                let next = next.map(|_| live.generation.next().get());
                held.rotate.handle_status(&info(live.id, live.generation.get(), next));
            }
            let said = held.rotate.due(now);
            if said.is_some() {
                held.said = [said, held.said[0]];
            }
            said
        };
        let Some(said) = said else { return };
        let live = live.filter(|live| reached && live.id == said.session_id);
        let Some(live) = live else {
            if !late {
                held.rotate.handle_failure(now);
            }
            return;
        };
        let mut next = None;
        self.transact(Some(core), commit, |db, _| {
            db.can_rotate(live.id);
            let (set, proven) = (PskGeneration::new(said.set), PskGeneration::new(said.proven));
            db.note_rotation(live.id, set, proven);
            let row = db.sessions.iter().find(|row| row.id == live.id);
            next = row.and_then(|row| {
                let next = row.next.filter(|next| next.state == RotationState::Staged)?;
                Some((row.generation.next().get(), next.psk))
            });
        });
        if late {
            self.coverage.hit(Cover::SaidLate);
            return;
        }
        let Some(held) = &mut self.devices[device].held[location] else { return };
        if commit != Commit::Done {
            return held.rotate.handle_failure(now);
        }
        let next = next.map(|(generation, psk)| {
            self.coverage.hit(Cover::KeyFetched);
            let psk = PresharedKey::from_bytes(psk).expose_base64();
            wire::NextKey { generation, preshared_key: wire::SecretText::new(psk.as_str()) }
        });
        held.rotate.handle_answer(&said, next.as_ref());
    }
}
