#!/bin/sh
# Run before everything else, at each start: makes what is missing, and changes nothing else.
set -eu

# The key that the service signs its requests to the store with, and the same for the store itself.
key=/secrets/store-key
if [ ! -s "$key" ]; then
  od -An -N24 -tx1 /dev/urandom | tr -d ' \n' > "$key.new"
  mv "$key.new" "$key"
  echo "made a key for the store"
fi
cat > /identities/s3.json <<END
{"identities": [{"name": "hidiffusion",
  "credentials": [{"accessKey": "hidiffusion", "secretKey": "$(cat "$key")"}],
  "actions": ["Admin", "Read", "Write", "List"]}]}
END

if [ ! -e /models/catalog.json ]; then
  cp -R /usr/share/hidiffusion/models/. /models/
  echo "put the catalogue and the bundled model into the volume of models"
fi

# Each volume can be read by the programs that mount it, whatever number they run as.
chmod 0755 /secrets /identities
chmod 0444 "$key" /identities/s3.json
chown 10001:10001 /state /cache /models /models/catalog.json
if [ -d /models/memory ]; then chown -R 10001:10001 /models/memory; fi
