/* history USER CHAT: the newest messages of a chat, and what of them is gone, as the broker says it. */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char ask[128], answer[128];

static void on_connect(struct mosquitto *client, void *data, int code) {
    mosquitto_subscribe(client, NULL, answer, 1);
}

static void on_subscribe(struct mosquitto *client, void *data, int mid, int count, const int *granted) {
    const char *limit = "{\"limit\":20}";
    mosquitto_publish(client, NULL, ask, strlen(limit), limit, 1, false);
}

static void on_message(struct mosquitto *client, void *data, const struct mosquitto_message *message) {
    printf("%.*s\n", message->payloadlen, (char *)message->payload);
    mosquitto_disconnect(client);
}

int main(int argc, char **argv) {
    char id[80];
    if (argc < 3) return 2;
    snprintf(id, sizeof id, "%s-history", argv[1]);
    snprintf(ask, sizeof ask, "chat/%s/history", argv[2]);
    snprintf(answer, sizeof answer, "me/json/%s/history", argv[2]);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(id, true, NULL);
    mosquitto_username_pw_set(client, argv[1], NULL);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_subscribe_callback_set(client, on_subscribe);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_connect(client, "127.0.0.1", atoi(getenv("MQTT_PORT") ?: "1883"), 60);
    return mosquitto_loop_forever(client, -1, 1);
}
