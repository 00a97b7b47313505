//! Random lives of peers and streams, with everything real but the kernel: in the end each gateway
//! has what the store holds.

use core::time::Duration;
use std::collections::BTreeMap;

use mfa_core::id::{LocationId, SessionId};
use mfa_core::policy::LocationPolicy;
use mfa_wire::gateway::{Ack, Resync, from_gateway, to_gateway};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::rig::{Held, Linked, Papers, Rig, SOON, held};

/// A gateway that applies what it is told, and now and then fails to.
struct Model {
    papers: Papers,
    process: u8,
    stream: Option<Linked>,
    kernel: Held,
    desired: Held,
    have: Option<u64>,
    fails: bool,
}

impl Model {
    fn new(papers: Papers) -> Self {
        let (kernel, desired) = (Held::new(), Held::new());
        Self { papers, process: 1, stream: None, kernel, desired, have: None, fails: false }
    }

    async fn dial(&mut self, rig: &Rig) {
        self.have = None;
        self.stream = Some(rig.try_link(&self.papers, self.process).await.unwrap());
    }

    /// Reads what comes within `patience`, and answers.
    async fn read(&mut self, patience: Duration) {
        let Some(stream) = &mut self.stream else { return };
        let heard = tokio::time::timeout(patience, stream.down.message());
        let Ok(heard) = heard.await else { return };
        let Ok(Some(message)) = heard else {
            self.stream = None;
            return;
        };
        let revision = match message.message.unwrap() {
            to_gateway::Message::Snapshot(snapshot) => {
                assert!(snapshot.last, "these are short");
                self.desired = held(&snapshot.peers);
                snapshot.revision
            }
            to_gateway::Message::Change(change) => {
                if self.have.is_none_or(|have| change.base_revision > have) {
                    stream.say(from_gateway::Message::Resync(Resync::default())).await;
                    return;
                }
                self.desired.extend(held(&change.peers));
                self.desired.retain(|key, _| !change.removed.contains(key));
                change.revision
            }
            to_gateway::Message::Heartbeat(_) => return,
        };
        let error = if core::mem::take(&mut self.fails) { "EBUSY" } else { "" };
        if error.is_empty() {
            self.kernel.clone_from(&self.desired);
            self.have = Some(revision);
        } else {
            self.have = None;
        }
        let ack = Ack { revision, error: error.to_owned(), ..Ack::default() };
        stream.say(from_gateway::Message::Ack(ack)).await;
    }
}

async fn live(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let rig = Rig::start().await;
    let paris = rig.location("Paris", LocationPolicy::recommended()).await;
    let mut devices = Vec::new();
    for n in 0..6 {
        devices.push(rig.device(n).await);
    }
    let mut gateways =
        [Model::new(rig.enrolled(paris, "a").await), Model::new(rig.enrolled(paris, "b").await)];
    let mut sessions: BTreeMap<usize, SessionId> = BTreeMap::new();
    for psk in 0..120_u8 {
        let which = random.random_range(0..devices.len());
        let gateway = &mut gateways[random.random_range(0..2)];
        match random.random_range(0..100) {
            0..30 => {
                let session = rig.begin_session(&devices[which], paris, psk).await;
                sessions.insert(which, session);
            }
            30..50 => {
                if let Some(session) = sessions.remove(&which) {
                    rig.end_session(session).await;
                }
            }
            50..55 => {
                let settings = crate::rig::settings("Paris", 9, LocationPolicy::recommended());
                rig.write(move |tx, by| tx.set_location(by, paris, &settings)).await;
            }
            55..60 => gateway.stream = None,
            60..65 => gateway.fails = true,
            65..70 => {
                gateway.stream = None;
                gateway.process = gateway.process.wrapping_add(1).max(1);
            }
            70..80 => gateway.dial(&rig).await,
            80..90 => rig.registry.wake(paris),
            _ => gateway.read(Duration::from_millis(20)).await,
        }
    }
    for gateway in &mut gateways {
        gateway.fails = false;
        settle(&rig, paris, gateway).await;
    }
}

async fn settle(rig: &Rig, paris: LocationId, gateway: &mut Model) {
    let all = rig.store.read(move |view| {
        let revision = view.revision(paris)?.unwrap();
        Ok::<_, mfa_store::StoreError>((revision, view.desired_peers(paris, None)?))
    });
    let (revision, desired) = all.await.unwrap();
    let want: Held = desired
        .iter()
        .map(|peer| {
            let session = peer.session.as_ref().unwrap();
            let psk = Some(session.psk.expose_secret().to_vec());
            let ips = peer.allowed_ips.iter().map(ToString::to_string).collect();
            let entry = (session.id.get(), session.generation.get(), psk, ips);
            (peer.public_key.as_bytes().to_vec(), entry)
        })
        .collect();
    let settled = async {
        while gateway.have != Some(u64::try_from(revision).unwrap()) {
            if gateway.stream.is_none() {
                gateway.dial(rig).await;
            }
            gateway.read(Duration::from_secs(2)).await;
        }
    };
    tokio::time::timeout(SOON * 2, settled).await.expect("it never got there");
    assert_eq!(gateway.kernel, want);
}

#[tokio::test]
async fn gateways_end_with_what_the_store_holds() {
    for seed in 0..4 {
        live(seed).await;
    }
}
