/* ticks USER: how far others have got, and read, what the user sent. */
#include <mosquitto.h>
#include <stdio.h>
#include <stdlib.h>

static void on_connect(struct mosquitto *client, void *data, int code) {
    mosquitto_subscribe(client, NULL, "me/json/+/receipt", 0);
}

static void on_message(struct mosquitto *client, void *data, const struct mosquitto_message *message) {
    char chat[80];
    sscanf(message->topic, "me/json/%79[^/]", chat);
    printf("%s %.*s\n", chat, message->payloadlen, (char *)message->payload);
    fflush(stdout);
}

int main(int argc, char **argv) {
    char id[80];
    if (argc < 2) return 2;
    snprintf(id, sizeof id, "%s-ticks", argv[1]);
    mosquitto_lib_init();
    struct mosquitto *client = mosquitto_new(id, true, NULL);
    mosquitto_username_pw_set(client, argv[1], NULL);
    mosquitto_connect_callback_set(client, on_connect);
    mosquitto_message_callback_set(client, on_message);
    mosquitto_connect(client, "127.0.0.1", atoi(getenv("MQTT_PORT") ?: "1883"), 60);
    return mosquitto_loop_forever(client, -1, 1);
}
