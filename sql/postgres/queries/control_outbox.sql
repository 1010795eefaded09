-- name: add_to_outbox$
INSERT INTO control.outbox (topic, key, value) VALUES (:topic, :key, :value) RETURNING id;

-- name: is_published$
-- Whether Kafka has acked these records: the relay deletes a row only then.
SELECT NOT EXISTS (SELECT 1 FROM control.outbox WHERE id = ANY (:ids::bigint[]));

-- name: outbox_backlog$
SELECT count(*) FROM control.outbox;
