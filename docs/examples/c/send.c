/* send USER CHAT ID TEXT: sends a message until it is stored. The id makes that safe to repeat. */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char topic[256];
static char **arg;
static int refused;

static void on_connect(struct mosquitto *client, void *data, int code) {
    /* After a lost connection too: what was stored already is acknowledged with the place it has. */
    if (code == 0)
        mosquitto_publish(client, NULL, topic, strlen(arg[4]), arg[4], 1, false);
}

static void on_publish(struct mosquitto *client, void *data, int mid, int code,
                       const mosquitto_property *properties) {
    refused = code >= 0x80;
    printf(refused ? "refused: %s\n" : "✓ %s\n", refused ? mosquitto_reason_string(code) : arg[3]);
    mosquitto_disconnect(client);
}

int main(int argc, char **argv) {
    char id[80];
    if (argc < 5) return 2;
    arg = argv;
    snprintf(id, sizeof id, "%s-send", argv[1]);
    snprintf(topic, sizeof topic, "chat/%s/send/%s", argv[2], argv[3]);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(id, true, NULL);
    mosquitto_int_option(client, MOSQ_OPT_PROTOCOL_VERSION, MQTT_PROTOCOL_V5);
    mosquitto_username_pw_set(client, argv[1], NULL);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_publish_v5_callback_set(client, on_publish);
    mosquitto_connect(client, "127.0.0.1", atoi(getenv("MQTT_PORT") ?: "1883"), 60);
    return mosquitto_loop_forever(client, -1, 1) != MOSQ_ERR_SUCCESS || refused;
}
