-- What projects used and what was refused them. Their policies are in project.settings -> 'policy'.

-- Events per calendar month (UTC), counted by all capture processes together.
CREATE TABLE project_usage (
  team_id integer NOT NULL,
  -- The first day of the month.
  month   date NOT NULL,
  -- Durable in the log, whatever became of them later.
  stored  bigint NOT NULL,
  -- Refused singly at the door, for whatever reason.
  refused bigint NOT NULL,
  PRIMARY KEY (team_id, month)
);

-- The last step that each process added to project_usage, so that a step whose answer was lost is not added again.
CREATE TABLE usage_writer (
  id       uuid PRIMARY KEY,
  sequence bigint NOT NULL,
  heard_at timestamptz NOT NULL DEFAULT now()
);

-- The last requests of each project that were refused, or of which events were refused: for support, a sample.
CREATE TABLE rejected_request (
  id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- 0: the request named no project that exists.
  team_id    integer NOT NULL,
  at         timestamptz NOT NULL,
  path       text NOT NULL,
  status     integer NOT NULL,
  -- Of a request that was refused as a whole; empty when events of it were refused singly.
  code       text NOT NULL,
  message    text NOT NULL,
  -- {"reason of a refused event": how many}
  reasons    jsonb NOT NULL,
  ip         text NOT NULL,
  user_agent text NOT NULL,
  sdk        text NOT NULL,
  request_id text NOT NULL,
  -- As sent; of a secret key only its beginning.
  token      text NOT NULL,
  -- On the wire; null when it was not read.
  body_bytes bigint,
  -- The beginning of the first refused event, or of the body.
  sample     text NOT NULL
);
CREATE INDEX rejected_request_of_project ON rejected_request (team_id, id);
