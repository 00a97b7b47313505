//! Who gets which tunnel address, and when again.

use core::time::Duration;

use mfa_core::policy::OutageHold;
use mfa_store::{ADDRESS_REST, Actor, By, Snapshot, StoreError};

use crate::on_both;
use crate::support::{BY, Fresh, NOW, device_of, location, location_key, person, read, write};

on_both! {
    async fn each_device_has_one_address_in_each_network(fresh: Fresh) {
        let store = fresh.open();
        let (location, devices) = write(&store, |tx| {
            let networks = ["10.1.0.1/24", "fd00:1::1/64"];
            let location = tx.add_location(BY, &location("a", &networks), &location_key())?;
            let user = tx.add_user(BY, &person("alice"))?;
            let devices = [
                tx.add_device(BY, &device_of(user))?.id,
                tx.add_device(BY, &device_of(user))?.id,
            ];
            Ok((location.id, devices))
        })
        .await;
        let mut found = Vec::new();
        for device in devices {
            let ips = read(&store, move |view| view.addresses(device, location)).await;
            found.extend(ips.iter().map(ToString::to_string));
        }
        assert_eq!(found, ["10.1.0.2/32", "fd00:1::2/128", "10.1.0.3/32", "fd00:1::3/128"]);
    }

    async fn a_full_network_is_an_error_that_names_it(fresh: Fresh) {
        let store = fresh.open();
        let user = write(&store, |tx| {
            tx.add_location(BY, &location("tiny", &["10.9.0.1/29"]), &location_key())?;
            let user = tx.add_user(BY, &person("alice"))?;
            for _ in 0..5 {
                tx.add_device(BY, &device_of(user))?;
            }
            Ok(user)
        })
        .await;
        let full = store.write(move |tx| tx.add_device(BY, &device_of(user))).await;
        let Err(StoreError::NoFreeAddress { location, network }) = full else {
            panic!("there was a sixth address: {full:?}");
        };
        assert_eq!((location.as_str(), network.as_str()), ("tiny", "10.9.0.0/29"));
        // The device that got no address is not there either.
        assert_eq!(read(&store, Snapshot::devices).await.len(), 5);
    }

    async fn an_address_rests_before_another_device_gets_it(fresh: Fresh) {
        let store = fresh.open();
        let (user, first, location) = write(&store, |tx| {
            let location = tx.add_location(BY, &location("tiny", &["10.9.0.1/30"]), &location_key())?;
            let user = tx.add_user(BY, &person("alice"))?;
            Ok((user, tx.add_device(BY, &device_of(user))?.id, location.id))
        })
        .await;
        assert!(write(&store, move |tx| tx.remove_device(BY, first)).await);
        let early = store.write(move |tx| tx.add_device(BY, &device_of(user))).await;
        assert!(matches!(early, Err(StoreError::NoFreeAddress { .. })));
        let later = By::new(Actor::Cli, NOW.saturating_add(ADDRESS_REST));
        let second = write(&store, move |tx| tx.add_device(later, &device_of(user))).await;
        let ips = read(&store, move |view| view.addresses(second.id, location)).await;
        assert_eq!(ips[0].to_string(), "10.9.0.2/32");
    }

    async fn an_address_rests_as_long_as_a_gateway_may_hold_it(fresh: Fresh) {
        let store = fresh.open();
        let hold = Duration::from_secs(24 * 3600);
        let (user, first) = write(&store, move |tx| {
            let mut tiny = location("tiny", &["10.9.0.1/30"]);
            tiny.policy = tiny.policy.with_outage_hold(OutageHold::new(hold).ok());
            tx.add_location(BY, &tiny, &location_key())?;
            let user = tx.add_user(BY, &person("alice"))?;
            Ok((user, tx.add_device(BY, &device_of(user))?.id))
        })
        .await;
        assert!(write(&store, move |tx| tx.remove_device(BY, first)).await);
        let early = By::new(Actor::Cli, NOW.saturating_add(hold.saturating_sub(Duration::from_millis(1))));
        let early = store.write(move |tx| tx.add_device(early, &device_of(user))).await;
        assert!(matches!(early, Err(StoreError::NoFreeAddress { .. })));
        let later = By::new(Actor::Cli, NOW.saturating_add(hold));
        write(&store, move |tx| tx.add_device(later, &device_of(user))).await;
    }

    async fn a_new_location_has_addresses_for_the_devices_there_are(fresh: Fresh) {
        let store = fresh.open();
        let device = write(&store, |tx| {
            let user = tx.add_user(BY, &person("alice"))?;
            Ok(tx.add_device(BY, &device_of(user))?.id)
        })
        .await;
        let ips = write(&store, move |tx| {
            let settings = location("late", &["10.3.0.1/24"]);
            let location = tx.add_location(BY, &settings, &location_key())?;
            tx.addresses(device, location.id)
        })
        .await;
        assert_eq!(ips.len(), 1);
    }

    async fn other_networks_mean_other_addresses(fresh: Fresh) {
        let store = fresh.open();
        let ips = write(&store, move |tx| {
            let mut settings = location("moving", &["10.3.0.1/24"]);
            let location = tx.add_location(BY, &settings, &location_key())?;
            let user = tx.add_user(BY, &person("alice"))?;
            let device = tx.add_device(BY, &device_of(user))?;
            settings.addresses = vec!["10.4.0.1/24".parse().expect("a network")];
            tx.set_location(BY, location.id, &settings)?;
            tx.addresses(device.id, location.id)
        })
        .await;
        assert_eq!(ips[0].to_string(), "10.4.0.2/32");
    }
}
