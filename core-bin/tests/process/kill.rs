//! SIGKILL at random moments under load.

use load::kill;

use crate::on_both;
use crate::rig::Rig;

/// How often to kill, where these are not enough; `load kill` does it a thousand times.
const KILLS: usize = 4;

on_both! {
    async fn every_acknowledged_login_is_there_once_after_kills_under_load(rig: Rig) {
        let seen = kill::run(&rig.place, &rig.world, KILLS, 8, drop).await.unwrap();
        assert!(seen.acknowledged >= KILLS, "{seen:?}");
        assert!(seen.begun >= seen.acknowledged, "{seen:?}");
    }
}
