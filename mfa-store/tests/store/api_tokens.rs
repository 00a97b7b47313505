//! Tokens of the REST API.

use core::time::Duration;

use mfa_core::token::Token;
use mfa_store::{NewApiToken, StoreError};

use crate::on_both;
use crate::support::{BY, Fresh, NOW, person, read, write};

on_both! {
    async fn an_api_token_is_found_by_its_digest_until_it_is_removed(fresh: Fresh) {
        let store = fresh.open();
        let digest = Token::from_random([3; 32]).digest();
        let user = write(&store, |tx| tx.add_user(BY, &person("alice"))).await;
        let new = NewApiToken {
            name: "terraform".to_owned(),
            digest,
            user: Some(user),
            scopes: "users:read".to_owned(),
            expires: NOW.saturating_add(Duration::from_secs(60)),
        };
        let again = new.clone();
        let added = write(&store, move |tx| tx.add_api_token(BY, &new)).await;
        let taken = store.write(move |tx| tx.add_api_token(BY, &again)).await;
        assert!(matches!(taken, Err(StoreError::Exists { what: "token" })));
        assert_eq!(read(&store, move |view| view.api_token(&digest)).await, Some(added.clone()));
        assert!(added.is_news(NOW) && added.used.is_none());

        write(&store, move |tx| tx.note_api_token(added.id, NOW)).await;
        let noted = read(&store, mfa_store::Snapshot::api_tokens).await.remove(0);
        assert_eq!(noted.used, Some(NOW));
        assert!(!noted.is_news(NOW.saturating_add(Duration::from_secs(59))));
        assert!(noted.is_news(NOW.saturating_add(Duration::from_secs(60))));

        assert!(write(&store, move |tx| tx.remove_api_token(BY, noted.id)).await);
        assert!(!write(&store, move |tx| tx.remove_api_token(BY, noted.id)).await);
        assert_eq!(read(&store, move |view| view.api_token(&digest)).await, None);
    }

    async fn an_api_token_goes_with_its_user(fresh: Fresh) {
        let store = fresh.open();
        let digest = Token::from_random([4; 32]).digest();
        let user = write(&store, |tx| tx.add_user(BY, &person("bob"))).await;
        let new = NewApiToken {
            name: "bob's".to_owned(),
            digest,
            user: Some(user),
            scopes: String::new(),
            expires: NOW,
        };
        write(&store, move |tx| tx.add_api_token(BY, &new)).await;
        write(&store, move |tx| tx.remove_user(BY, user)).await;
        assert_eq!(read(&store, move |view| view.api_token(&digest)).await, None);
    }
}
