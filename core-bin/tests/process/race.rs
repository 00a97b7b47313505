//! One code, sent a hundred times at once to two processes on one database.

use load::core::Place;
use load::gateway::Gateway;
use load::line::{Dialer, Line};
use load::storm::{self, Outcome};
use tokio::task::JoinSet;

use crate::on_both;
use crate::rig::{Rig, step};

const ROUNDS: usize = 3;
const AT_ONCE: u32 = 100;

/// Connects; on a busy machine a handshake may take longer than core waits for it.
async fn dial(dialer: &Dialer, number: u32) -> Line {
    for _ in 0..50 {
        if let Ok(line) = dialer.dial(number).await {
            return line;
        }
    }
    panic!("no connection");
}

on_both! {
    async fn one_code_sent_to_two_processes_opens_once(rig: Rig) {
        // The second core has a copy of what the first one's state directory has.
        let mut other = Place::new(&rig.place.program, &rig.root.path().join("other"), &rig.place.url)
            .unwrap();
        let (from, to) = (&rig.place.dir, &other.dir);
        let copied = std::process::Command::new("cp").arg("-r").args([from, to]).status().unwrap();
        assert!(copied.success());
        other.wrapper.clone_from(&rig.place.wrapper);
        let cores = [rig.place.start().unwrap(), other.start().unwrap()];
        let gateways = [rig.place.gateways, other.gateways];
        let _gateway = Gateway::start(&rig.world, &rig.place.dir, &gateways).await.unwrap();

        let dialers = [rig.dialer(), rig.dialer().to(other.public)];
        for round in 0..ROUNDS {
            let person = &rig.world.people[round];
            let mut tokens = Vec::new();
            for (number, dialer) in (0..3).zip(dialers.iter().cycle()) {
                // Until the gateway has connected to both.
                let token = loop {
                    let mut line = dial(dialer, number).await;
                    match storm::challenge(&mut line, &rig.world, person).await.unwrap() {
                        Ok(token) => break token,
                        Err(status) => assert_eq!(status, 503, "round {round}"),
                    }
                    tokio::time::sleep(core::time::Duration::from_millis(50)).await;
                };
                tokens.push(token);
            }
            let step = step();
            let mut tries = JoinSet::new();
            for (number, dialer) in (0..AT_ONCE).zip(dialers.iter().cycle()) {
                let token = tokens[usize::try_from(number).unwrap() % tokens.len()].clone();
                let (dialer, person) = (dialer.clone(), person.clone());
                tries.spawn(async move {
                    let mut line = dial(&dialer, number).await;
                    storm::answer_challenge(&mut line, &person, step, &token).await.unwrap()
                });
            }
            let mut opened = 0;
            for outcome in tries.join_all().await {
                match outcome {
                    Outcome::Begun(_) => opened += 1,
                    Outcome::Refused(status) => assert!(status < 500, "round {round}: {status}"),
                    Outcome::Unknown => panic!("round {round}: a connection broke"),
                }
            }
            assert_eq!(opened, 1, "round {round}");
        }
        for core in cores {
            core.kill().unwrap();
        }
    }
}
