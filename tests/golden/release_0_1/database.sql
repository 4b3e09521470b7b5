BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0004');
CREATE TABLE api_keys (
	id VARCHAR(16) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	limits JSON NOT NULL, 
	created_s DOUBLE NOT NULL, 
	revoked_s DOUBLE, 
	PRIMARY KEY (id)
);
INSERT INTO "api_keys" VALUES('k','one','0000000000000000000000000000000000000000000000000000000000000000','{"requests_per_min": 600, "max_concurrent_requests": 64, "max_streamed_dubs": 2, "max_active_dubs": 16, "media_s_per_day": 172800.0, "max_stored_bytes": 214748364800}',1.0,NULL);
CREATE TABLE charges (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(80) NOT NULL, 
	dub_id VARCHAR(40) NOT NULL, 
	media_s DOUBLE NOT NULL, 
	charged_s DOUBLE NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "charges" VALUES('dub_01m8m4t6258cspn2t001jc35p1','one','dub_01m8m4t531k52bfzqh0vztdzbp',20.0,1.79597247104900026326e+09);
INSERT INTO "charges" VALUES('dub_01m8m4t6trg4cnprzdqakf2d93','one','dub_01m8m4t6j2gg14zgb69qyehzft',20.0,1.7959724716710045337e+09);
INSERT INTO "charges" VALUES('dub_01m8m4t75tccdbn86753tw24t8','one','dub_01m8m4t6xtgsvtp3ktr5hqveq2',20.0,1.79597247201600360871e+09);
CREATE TABLE deliveries (
	id VARCHAR(40) NOT NULL, 
	dub_id VARCHAR(40) NOT NULL, 
	url TEXT NOT NULL, 
	body TEXT NOT NULL, 
	num_attempts INTEGER NOT NULL, 
	due_s DOUBLE NOT NULL, 
	delivered_s DOUBLE, 
	error TEXT, owner VARCHAR(80) DEFAULT '' NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "deliveries" VALUES('msg_01m8m4tc8q8jhhgb1gk0ev6zye','dub_01m8m4t531k52bfzqh0vztdzbp','https://a.example/hook','{"type": "dub.done", "dub_id": "dub_01m8m4t531k52bfzqh0vztdzbp", "created_s": 1795972477.207755, "error": null}',0,1.79597247720775508882e+09,NULL,NULL,'one');
CREATE TABLE dubs (
	id VARCHAR(40) NOT NULL, 
	owner VARCHAR(80) NOT NULL, 
	name TEXT NOT NULL, 
	source_url TEXT, 
	content_type VARCHAR(120), 
	options JSON NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	created_s DOUBLE NOT NULL, 
	updated_s DOUBLE NOT NULL, 
	duration_s DOUBLE, 
	charged_s DOUBLE NOT NULL, 
	source_language VARCHAR(35), 
	error TEXT, 
	progress JSON NOT NULL, 
	revision INTEGER NOT NULL, 
	output VARCHAR(40), 
	num_events BIGINT NOT NULL, 
	num_attempts INTEGER NOT NULL, 
	lease_owner VARCHAR(64), 
	lease_until_s DOUBLE NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	idempotency_key VARCHAR(255), 
	fingerprint VARCHAR(64), 
	webhook_url TEXT, 
	deleted_s DOUBLE, verdict JSON, is_fetched BOOLEAN DEFAULT 1 NOT NULL, claimed_s DOUBLE DEFAULT '0' NOT NULL, num_spoken INTEGER DEFAULT '0' NOT NULL, stored_bytes BIGINT DEFAULT '0' NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (owner, idempotency_key)
);
INSERT INTO "dubs" VALUES('dub_01m8m4t531k52bfzqh0vztdzbp','one','done',NULL,'video/mp4','{"source_language": "en", "profile": null, "voices": {"pt": "faber"}, "audio_track": null, "speakers": null}','done',1.79597247085359978677e+09,1.79597247374034929274e+09,10.0,0.0,'en',NULL,'{"stages": {}}',1,'00000000000000000000000000000000',2,1,NULL,0.0,0,'done',NULL,'https://a.example/hook',NULL,'{"outcome": "passed"}',1,1.79597247249699091915e+09,3,0);
INSERT INTO "dubs" VALUES('dub_01m8m4t6j2gg14zgb69qyehzft','one','waiting',NULL,'video/mp4','{"source_language": "en", "profile": null, "voices": {"pt": "faber"}, "audio_track": null, "speakers": null}','queued',1.79597247164213562019e+09,1.79597247164213562019e+09,10.0,0.0,'en',NULL,'{}',0,NULL,0,0,NULL,0.0,0,'waiting',NULL,'https://a.example/hook',NULL,'null',1,0.0,0,0);
INSERT INTO "dubs" VALUES('dub_01m8m4t6xtgsvtp3ktr5hqveq2','one','',NULL,'video/mp4','{}','cancelled',1.79597247200111317629e+09,1.79597247200111317629e+09,10.0,0.0,'en',NULL,'{}',0,NULL,0,0,NULL,0.0,0,NULL,NULL,NULL,1.79597247758521389956e+09,'null',1,0.0,0,0);
CREATE TABLE edits (
	dub_id VARCHAR(40) NOT NULL, 
	utterance_id VARCHAR(80) NOT NULL, 
	text TEXT, 
	voice VARCHAR(120), 
	created_s DOUBLE NOT NULL, 
	PRIMARY KEY (dub_id, utterance_id), 
	FOREIGN KEY(dub_id) REFERENCES dubs (id) ON DELETE CASCADE
);
INSERT INTO "edits" VALUES('dub_01m8m4t531k52bfzqh0vztdzbp','pt:u0000','Bom dia.',NULL,1.79597247746701025967e+09);
CREATE TABLE events (
	dub_id VARCHAR(40) NOT NULL, 
	number BIGINT NOT NULL, 
	kind VARCHAR(24) NOT NULL, 
	data JSON NOT NULL, 
	created_s DOUBLE NOT NULL, 
	PRIMARY KEY (dub_id, number), 
	FOREIGN KEY(dub_id) REFERENCES dubs (id) ON DELETE CASCADE
);
INSERT INTO "events" VALUES('dub_01m8m4t531k52bfzqh0vztdzbp',1,'started','{"attempt": 1}',1.79597247317516279215e+09);
INSERT INTO "events" VALUES('dub_01m8m4t531k52bfzqh0vztdzbp',2,'done','{"languages": ["pt"]}',1.79597247374034929274e+09);
CREATE TABLE instance (
	number INTEGER NOT NULL, 
	id VARCHAR(32) NOT NULL, 
	PRIMARY KEY (number)
);
INSERT INTO "instance" VALUES(1,'ffffffffffffffffffffffffffffffff');
CREATE TABLE strays (
	dub_id VARCHAR(40) NOT NULL, 
	seen_s DOUBLE NOT NULL, 
	PRIMARY KEY (dub_id)
);
CREATE TABLE targets (
	dub_id VARCHAR(40) NOT NULL, 
	language VARCHAR(35) NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	revision INTEGER NOT NULL, 
	created_s DOUBLE NOT NULL, 
	error TEXT, 
	PRIMARY KEY (dub_id, language), 
	FOREIGN KEY(dub_id) REFERENCES dubs (id) ON DELETE CASCADE
);
INSERT INTO "targets" VALUES('dub_01m8m4t531k52bfzqh0vztdzbp','pt','stale',1,1.79597247085359978677e+09,NULL);
INSERT INTO "targets" VALUES('dub_01m8m4t531k52bfzqh0vztdzbp','fr','completed',1,1.79597247085459971434e+09,NULL);
INSERT INTO "targets" VALUES('dub_01m8m4t6j2gg14zgb69qyehzft','pt','queued',0,1.79597247164213562019e+09,NULL);
INSERT INTO "targets" VALUES('dub_01m8m4t6j2gg14zgb69qyehzft','fr','queued',0,1.79597247164313554763e+09,NULL);
CREATE INDEX deliveries_due ON deliveries (delivered_s, due_s);
CREATE INDEX dubs_by_owner ON dubs (owner, id);
CREATE INDEX dubs_by_state ON dubs (state, lease_until_s);
CREATE INDEX dubs_by_claim ON dubs (owner, claimed_s);
CREATE INDEX charges_by_owner ON charges (owner, charged_s);
COMMIT;
